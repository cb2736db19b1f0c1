"""The UV side: unwrap, views, shots, stitching."""
