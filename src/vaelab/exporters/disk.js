// Explains why the page stays empty if its folder is opened from the disk, from which browsers do not load modules.

if (location.protocol === "file:") {
  document.querySelector('[role="status"]').textContent =
    "Browsers cannot open this page from the disk. Run “python -m http.server --bind 127.0.0.1” in its folder and open " +
    "http://127.0.0.1:8000, or export it with --single-file.";
}
