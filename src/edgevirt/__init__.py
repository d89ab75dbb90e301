"""edgevirt: an edge virtualization engine and its controller."""

__version__ = "0.1.0"
