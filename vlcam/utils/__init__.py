"""Small tools that know nothing of models: errors, files, threads, memory."""
