"""A trained model for other programs: ONNX graphs, and the explorer as a page that needs no server and no Python."""
