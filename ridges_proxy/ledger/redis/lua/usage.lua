return usage(find(ARGV[2]))
