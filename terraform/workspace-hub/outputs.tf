output "address" {
  description = "The Hub's public address."
  value       = local.address
}

output "function_urls" {
  description = "Each function's own URL."
  value       = local.urls
}

output "image_repository" {
  description = "Where the workspaces' container image goes, without its tag: `docker push …:latest`."
  value       = local.image_repository
}

output "installation" {
  description = "This Hub's id: the label `hub` of its machines and disks."
  value       = local.installation
}

output "list_workspaces" {
  description = "A command that lists your workspaces, ready to be pasted."
  value = (
    var.domain == null
    ? "curl -sS ${local.address}/workspaces -H \"Authorization: Bearer $(gcloud auth print-identity-token)\""
    : "python3 -m webbrowser ${local.address}/workspaces # in a browser, where Identity-Aware Proxy asks who you are"
  )
}

output "load_balancer_address" {
  description = "The IP address that the domain's A record must have; null without a domain."
  value       = one(google_compute_global_address.this[*].address)
}

output "machine_service_account" {
  description = "As whom the machines run."
  value       = google_service_account.machine.email
}
