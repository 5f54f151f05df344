"""Classic recognisers, which the networks have to beat."""
