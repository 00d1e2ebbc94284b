module example.com/token-go

go 1.19
