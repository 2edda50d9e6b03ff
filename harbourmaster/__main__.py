from harbourmaster.cli import main

main()
