// Browsers load no modules from the disk: a folder that was opened as a file says so, where it would say nothing for ever.

if (location.protocol === "file:") {
  document.querySelector('[role="status"]').textContent =
    "Browsers cannot open this page from the disk. Run “python -m http.server --bind 127.0.0.1” in its folder and open " +
    "http://127.0.0.1:8000, or export it with --single-file.";
}
