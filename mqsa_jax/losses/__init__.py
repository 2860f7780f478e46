"""Pure losses and metrics, usable without the model."""
