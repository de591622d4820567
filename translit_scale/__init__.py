"""translit_scale: train multilingual encoders on sentences together with their Latin transliterations."""

__version__ = "0.1.0"
