"""What the stage scripts share, one noun a module, in the order data flows."""
