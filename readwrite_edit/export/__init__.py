"""Files that everyone else's tools load: an adapter or a merged model in a folder, and on the Hub."""

from readwrite_edit.export.folder import ExportedFile, export_run, planned_files
from readwrite_edit.export.upload import check_upload, push

__all__ = ["ExportedFile", "check_upload", "export_run", "planned_files", "push"]
