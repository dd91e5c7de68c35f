"""NeuralTalk2, ours and those of three published projects."""
