-- Says a word: it is heard by whoever follows, and kept by nobody.
-- KEYS: 1 rules   2 rules by their ends   3 log
-- ARGV: 1 word
-- Returns where the store is
note('w', ARGV[1])
settle()
return { place() }
