"""What tests do with what they test: call, read, watch, and look for what is left behind."""
