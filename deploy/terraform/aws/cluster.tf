resource "aws_ecs_cluster" "this" {
  name = "${var.name}-bots"

  setting {
    name  = "containerInsights"
    value = var.container_insights ? "enabled" : "disabled"
  }
}

# No default strategy: every start says where it goes.
resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_cloudwatch_log_group" "runners" {
  name              = "/ecs/${aws_ecs_cluster.this.name}"
  retention_in_days = var.log_retention_days
}
