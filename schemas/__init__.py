"""What every table and file that crosses a job boundary looks like. Imports nothing of ours."""
