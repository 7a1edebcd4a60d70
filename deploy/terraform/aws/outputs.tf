# Named as the settings are: terraform output -raw env > aws.env

locals {
  families = { for provider, definition in aws_ecs_task_definition.bot : provider => definition.family }
  settings = merge(
    {
      AWS_REGION               = var.region
      AWS_ECS_CLUSTER          = aws_ecs_cluster.this.name
      AWS_ECS_SUBNETS          = join(",", var.private_subnets ? aws_subnet.private[*].id : aws_subnet.public[*].id)
      AWS_ECS_SECURITY_GROUPS  = aws_security_group.runners.id
      AWS_ECS_ASSIGN_PUBLIC_IP = tostring(!var.private_subnets)
    },
    { for provider, family in local.families : "AWS_ECS_TASK_DEF_${upper(replace(provider, "-", "_"))}" => family },
    # Whoever has no task definition of its own runs in a plain browser.
    { for provider, family in local.families : "AWS_ECS_TASK_DEF" => family if provider == "web" },
  )
}

output "AWS_REGION" {
  value = local.settings["AWS_REGION"]
}

output "AWS_ECS_CLUSTER" {
  value = local.settings["AWS_ECS_CLUSTER"]
}

output "AWS_ECS_SUBNETS" {
  value = local.settings["AWS_ECS_SUBNETS"]
}

output "AWS_ECS_SECURITY_GROUPS" {
  value = local.settings["AWS_ECS_SECURITY_GROUPS"]
}

output "AWS_ECS_ASSIGN_PUBLIC_IP" {
  value = local.settings["AWS_ECS_ASSIGN_PUBLIC_IP"]
}

output "env" {
  description = "All settings of the platform, a line each."
  value       = join("\n", concat([for name, value in local.settings : "${name}=${value}"], [""]))
}

output "deployer_policy_arn" {
  description = "Attach it to whoever the deployer is."
  value       = aws_iam_policy.deployer.arn
}

output "registry_secret" {
  description = "Fill it: aws secretsmanager put-secret-value --secret-id NAME --secret-string '{\"username\":\"…\",\"password\":\"…\"}'"
  value       = one(aws_secretsmanager_secret.registry[*].name)
}

output "vcpus_for_50_bots" {
  description = "What 50 runners of the default size need of the quota \"Fargate On-Demand vCPU resource count\" (L-3032A538)."
  value       = 50 * var.cpu / 1024
}
