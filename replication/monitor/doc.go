// Package monitor asks every PostgreSQL of the cluster where it is, and publishes the answers as a
// replication.StatusBoard. A Monitor keeps one connection and one goroutine per member of the View; members come and
// go with it. What it says is advisory: nobody may write anywhere because of it.
package monitor
