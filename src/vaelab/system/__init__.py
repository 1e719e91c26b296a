"""What vaelab asks of the machine: devices, processes, files, downloads, progress."""
