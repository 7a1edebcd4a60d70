# Public subnets cost nothing but the addresses: a task gets one of its own, and nobody can knock at it.

locals {
  zones = slice(data.aws_availability_zones.available.names, 0, var.zones)
  bits  = 20 - tonumber(split("/", var.cidr)[1])
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_subnet" "public" {
  count = var.zones

  vpc_id            = aws_vpc.this.id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(var.cidr, local.bits, count.index)

  tags = { Name = "${var.name}-public-${local.zones[count.index]}" }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this.id
  }

  tags = { Name = "${var.name}-public" }
}

resource "aws_route_table_association" "public" {
  count = var.zones

  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public.id
}

# Runners begin every connection: nothing comes in.
resource "aws_security_group" "runners" {
  name        = "${var.name}-runners"
  description = "Runners: everything out, nothing in"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-runners" }
}

resource "aws_vpc_security_group_egress_rule" "runners" {
  security_group_id = aws_security_group.runners.id
  description       = "Meetings, and the gateway"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}
