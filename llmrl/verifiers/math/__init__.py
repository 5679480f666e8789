"""The verifier of mathematical answers: find the answer, parse it, work out its value, compare."""
