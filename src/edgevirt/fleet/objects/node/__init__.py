"""A machine, from its enrollment on: EdgeNode, HardwareModel, OnboardingKey, EnrollmentRequest."""
