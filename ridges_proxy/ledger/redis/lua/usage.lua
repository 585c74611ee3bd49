return detailed(find(ARGV[2]) or find_finished(ARGV[2]))
