"""What runs a network's `forward`: torch, ONNX Runtime or OpenVINO. Everything before and after is the same for all."""
