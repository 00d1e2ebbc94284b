-- Appends a notice to the log. Processes that follow the log receive it; it is not a rule.
-- KEYS, state: see common.lua
-- ARGV: 1 notice (JSON)
-- Returns the state
append('w', ARGV[1])
settle()
return { state() }
