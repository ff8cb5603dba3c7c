output "address" {
  description = "The Hub's public address."
  value       = local.address
}

output "build_image" {
  description = "A command that has Cloud Build make the workspaces' image from `images/workspace`, ready to paste where you ran Terraform."
  value = join(" ", [
    "gcloud builds submit \"${local.image_source}\" --config \"${local.image_source}/cloudbuild.yaml\"",
    "--project ${var.project_id} --region ${var.region}",
    "--service-account ${google_service_account.image.id}",
    "--gcs-source-staging-dir gs://${google_storage_bucket.source.name}/image",
    "--substitutions _IMAGE=${local.image_repository}:${local.image_tag}",
  ])
}

output "function_urls" {
  description = "Each function's own URL."
  value       = local.urls
}

output "image_repository" {
  description = "Where to push the workspaces' container image, without its tag: `docker push …:latest`."
  value       = local.image_repository
}

output "installation" {
  description = "This Hub's installation id, which its machines and disks have as the label `hub`."
  value       = local.installation
}

output "list_workspaces" {
  description = "A command that lists your workspaces, ready to paste."
  value = (
    var.domain == null
    ? "curl -sS ${local.address}/workspaces -H \"Authorization: Bearer $(gcloud auth print-identity-token)\""
    : "python3 -m webbrowser ${local.address}/workspaces # in a browser, where Identity-Aware Proxy asks who you are"
  )
}

output "load_balancer_address" {
  description = "The IP address for the domain's A record; null without a domain."
  value       = one(google_compute_global_address.this[*].address)
}

output "machine_service_account" {
  description = "The service account that the machines run as."
  value       = google_service_account.machine.email
}
