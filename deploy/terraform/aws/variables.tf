variable "region" {
  description = "Where everything is: AWS_REGION."
  type        = string
}

variable "name" {
  description = "How the names of everything here begin."
  type        = string
  default     = "greenroom"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "Lower-case letters, digits and hyphens, 24 at most."
  }
}

variable "images" {
  description = "The image of each provider's bots. A provider that is not named here has no task definition."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for provider in keys(var.images) : contains(["google-meet", "microsoft-teams", "zoom", "web"], provider)])
    error_message = "Providers are google-meet, microsoft-teams, zoom and web."
  }
}

variable "ghcr_org" {
  description = "The organisation on ghcr.io whose meeboter-<provider>-bot images are run where images names no other."
  type        = string
  default     = null
}

variable "image_tag" {
  description = "Which of these images."
  type        = string
  default     = "latest"
}

variable "image_needs" {
  description = "What a provider's image cannot do without, each a wall less: root, writable-root. As RUNNER_IMAGE_<PROVIDER>_NEEDS."
  type        = map(list(string))
  default     = {}
}

variable "private_registry" {
  description = "Whether images are pulled with a user and a password. The secret is made empty: put-secret-value fills it, so that it stands in no state."
  type        = bool
  default     = false
}

variable "ecr" {
  description = "Whether images are pulled from this account's ECR."
  type        = bool
  default     = false
}

variable "cpu" {
  description = "CPU units of a task for which nothing else is said. Greenroom says it for each."
  type        = number
  default     = 1024
}

variable "memory" {
  description = "MiB of a task for which nothing else is said."
  type        = number
  default     = 2048
}

variable "tmp_mib" {
  description = "The size of /tmp, the only place that a runner writes to, in MiB of its memory."
  type        = number
  default     = 512
}

variable "stop_timeout" {
  description = "Seconds that a runner has to finish after SIGTERM; Fargate gives 120 at most. Whatever grace Greenroom asks for, this is what it gets."
  type        = number
  default     = 120

  validation {
    condition     = var.stop_timeout >= 2 && var.stop_timeout <= 120
    error_message = "Fargate takes 2 to 120 seconds."
  }
}

variable "cidr" {
  description = "The addresses of the network. Each of the zones takes a part of 12 bits: 4,091 tasks."
  type        = string
  default     = "10.42.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && tonumber(split("/", var.cidr)[1]) <= 16
    error_message = "A network of 16 bits or more: 10.42.0.0/16."
  }
}

variable "zones" {
  description = "How many zones tasks are spread over."
  type        = number
  default     = 2

  validation {
    condition     = var.zones >= 2 && var.zones <= 6
    error_message = "Two zones at least: one may be full."
  }
}

variable "private_subnets" {
  description = "Whether tasks have no public address. They go out through a NAT gateway, which meetings' traffic pays for, and reach AWS by endpoints."
  type        = bool
  default     = false
}

variable "log_retention_days" {
  description = "How long what runners print is kept."
  type        = number
  default     = 14
}

variable "container_insights" {
  description = "Whether CloudWatch measures every task, which costs."
  type        = bool
  default     = false
}
