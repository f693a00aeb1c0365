"""The life of a task: status table, tasks, and the ports to what runs them."""
