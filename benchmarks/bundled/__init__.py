"""The bundled models of real photos: how they were chosen, and how good they are."""
