"""A model as a folder of open formats: StableHLO, ONNX, safetensors, Parquet and JSON."""
