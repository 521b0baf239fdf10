"""What a plan will cost in time, memory and disk: from records, from sizes, or from a rehearsal."""
