return use_details().usage(find(ARGV[2]) or use_finished().find(ARGV[2]))
