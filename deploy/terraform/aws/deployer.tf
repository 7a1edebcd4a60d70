# What Greenroom's deployer may do, and no more: a test holds this list against what it asks for.

locals {
  arn   = "arn:${data.aws_partition.current.partition}:ecs:${var.region}:${data.aws_caller_identity.current.account_id}"
  tasks = "${local.arn}:task/${aws_ecs_cluster.this.name}/*"
}

data "aws_iam_policy_document" "deployer" {
  statement {
    sid       = "Start"
    actions   = ["ecs:RunTask"]
    resources = [for definition in aws_ecs_task_definition.bot : "${local.arn}:task-definition/${definition.family}:*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    sid       = "TagWhatIsStarted"
    actions   = ["ecs:TagResource"]
    resources = [local.tasks]

    condition {
      test     = "StringEquals"
      variable = "ecs:CreateAction"
      values   = ["RunTask"]
    }
  }

  statement {
    sid       = "HandOverRoles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.execution.arn, aws_iam_role.task.arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }

  statement {
    sid       = "LookAndStop"
    actions   = ["ecs:DescribeTasks", "ecs:StopTask"]
    resources = [local.tasks]
  }

  statement {
    sid       = "List"
    actions   = ["ecs:ListTasks"]
    resources = ["*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    sid       = "Cluster"
    actions   = ["ecs:DescribeClusters"]
    resources = [aws_ecs_cluster.this.arn]
  }

  # ECS takes no narrower resource for it.
  statement {
    sid       = "TaskDefinitions"
    actions   = ["ecs:DescribeTaskDefinition"]
    resources = ["*"]
  }

  statement {
    sid       = "Lines"
    actions   = ["logs:GetLogEvents"]
    resources = ["${aws_cloudwatch_log_group.runners.arn}:log-stream:*"]
  }
}

# Attach it to whoever the deployer is: an instance's or a pod's role, a task role, or a user with an access key.
resource "aws_iam_policy" "deployer" {
  name        = "${var.name}-deployer"
  description = "Starts, looks at and stops runners"
  policy      = data.aws_iam_policy_document.deployer.json

  lifecycle {
    precondition {
      condition     = length(local.images) > 0
      error_message = "Nothing would be run: set images or ghcr_org."
    }
  }
}
