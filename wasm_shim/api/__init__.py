"""Code that protoc generates from proto/; never edited by hand."""
