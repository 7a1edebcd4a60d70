# One task definition for each provider. What ECS lets nobody say for one task stands here: the image, who it is, what it may
# write to, and how long it has to finish.

locals {
  meeboter = var.ghcr_org == null ? {} : {
    for provider in ["google-meet", "microsoft-teams", "zoom"] :
    provider => "ghcr.io/${lower(var.ghcr_org)}/meeboter-${provider}-bot:${var.image_tag}"
  }
  images = merge(local.meeboter, var.images)
  needs  = { for provider in keys(local.images) : provider => lookup(var.image_needs, provider, []) }
}

resource "aws_ecs_task_definition" "bot" {
  for_each = local.images

  family                   = "${var.name}-${each.key}-bot"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }

  container_definitions = jsonencode([merge(
    {
      name                   = "${each.key}-bot"
      image                  = each.value
      essential              = true
      cpu                    = var.cpu
      memory                 = var.memory
      readonlyRootFilesystem = !contains(local.needs[each.key], "writable-root")
      stopTimeout            = var.stop_timeout

      linuxParameters = {
        # Takes in what a browser leaves behind, and passes signals on.
        initProcessEnabled = true
        capabilities       = { drop = ["ALL"] }
        tmpfs = [{
          containerPath = "/tmp"
          size          = var.tmp_mib
          mountOptions  = ["mode=1777", "nosuid", "nodev"]
        }]
      }

      logConfiguration = {
        logDriver = "awslogs"
        options = {
          awslogs-group         = aws_cloudwatch_log_group.runners.name
          awslogs-region        = var.region
          awslogs-stream-prefix = "bot"
          # A full buffer loses lines rather than hold up a meeting.
          mode            = "non-blocking"
          max-buffer-size = "4m"
        }
      }
    },
    contains(local.needs[each.key], "root") ? {} : { user = "10001:10001" },
    var.private_registry ? {
      repositoryCredentials = { credentialsParameter = aws_secretsmanager_secret.registry[0].arn }
    } : {},
  )])
}

# Filled by hand, so that the password is in no state:
#   aws secretsmanager put-secret-value --secret-id greenroom/registry --secret-string '{"username":"…","password":"…"}'
resource "aws_secretsmanager_secret" "registry" {
  count = var.private_registry ? 1 : 0

  name        = "${var.name}/registry"
  description = "Who we are to the registry of runners' images"
}
