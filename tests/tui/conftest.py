"""Pictures of the TUI are kept as SVG files."""

from pytest_textual_snapshot import SVGImageExtension

SVGImageExtension.file_extension = "svg"  # syrupy 5 renamed what the plugin sets; without it they would end in .raw
