return books(find(ARGV[2]))
