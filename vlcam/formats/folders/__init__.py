"""What a folder of transformers holds, looked at before anything is built from it."""
