"""What a checkpoint's or an engine's quantization does to each tensor: one class per scheme."""
