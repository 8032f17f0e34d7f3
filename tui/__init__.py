"""The full-screen view of runs. It reads run folders and writes nothing but stop requests; it never loads torch."""
