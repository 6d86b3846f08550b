"""What times: systems, models, operations, workers in processes of their own, reports."""
