"""Speed and memory beside other toolkits, and beside what the machine could do. See README.md."""
