"""What several test files need: oracles, small trainings, teachers, stores and processes. No test is here."""
