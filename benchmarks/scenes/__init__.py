"""Our models on rendered scenes, where everything is known."""
