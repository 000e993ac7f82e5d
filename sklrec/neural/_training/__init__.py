"""How every neural recommender is trained, kept and asked: nothing here belongs to one model."""
