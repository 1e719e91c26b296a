"""The machine: devices, processes, files, downloads, progress."""
