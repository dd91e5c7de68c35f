"""Models of the Hugging Face hub: from the local cache, or fetched once one has agreed to it."""
