"""A read-only Hub of verified files: what is offered (table), requests, answers, connections and their limits."""
