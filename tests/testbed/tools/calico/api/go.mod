module github.com/projectcalico/api

go 1.23.8

require (
	k8s.io/api v0.29.15
	k8s.io/apimachinery v0.29.15
)
