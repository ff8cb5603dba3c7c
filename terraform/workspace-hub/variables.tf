variable "access" {
  description = <<-END
    Whom the Hub serves. `emails` are verified e-mail addresses, and `domains` are Google Workspace
    organisations. `admins` may see and change everybody's workspaces, with the account that their
    organisation runs for their address. `outside_admins` may do so with any account: those at
    gmail.com, service accounts, and others that no organisation runs. `mode = "personal"` serves
    only `emails`, and has no administrators.
  END
  type = object({
    admins         = optional(list(string), [])
    domains        = optional(list(string), [])
    emails         = optional(list(string), [])
    mode           = optional(string, "team")
    outside_admins = optional(list(string), [])
  })

  validation {
    condition     = contains(["personal", "team"], var.access.mode)
    error_message = "access.mode must be personal or team."
  }
  validation {
    condition     = length(concat(var.access.emails, var.access.mode == "team" ? var.access.domains : [])) > 0
    error_message = "access must name somebody in emails, or in team mode in domains. Administrators alone are not enough."
  }
  validation {
    condition     = var.access.mode == "team" || length(concat(var.access.domains, var.access.admins, var.access.outside_admins)) == 0
    error_message = "access.domains, access.admins and access.outside_admins must be empty in personal mode: they are for team mode."
  }
  validation {
    condition     = !contains(concat(var.access.domains, var.access.admins, var.access.outside_admins), "*")
    error_message = "\"*\" serves everybody who proves who they are. Only access.emails may contain it."
  }
  validation {
    condition = alltrue([
      for address in concat(var.access.admins, var.access.emails, var.access.outside_admins) : address == "*" || can(regex("^[!-+\\--~]+@[!-+\\--~]+$", address))
    ])
    error_message = "access.admins, access.emails and access.outside_admins must be e-mail addresses in ASCII: an address with other letters matches nobody."
  }
  validation {
    condition     = alltrue([for domain in var.access.domains : domain == "*" || can(regex("^[a-zA-Z0-9-]+([.][a-zA-Z0-9-]+)*$", domain))])
    error_message = "access.domains must be domains in ASCII, like example.com. Write a domain with other letters as xn--…."
  }
  validation {
    condition     = alltrue([for address in var.access.admins : !can(regex("(?i)@(gmail[.]com|googlemail[.]com|(.+[.])?gserviceaccount[.]com)$", address))])
    error_message = "access.admins must be accounts that an organisation runs. Name accounts at gmail.com and service accounts in access.outside_admins."
  }
}

variable "alert_channels" {
  description = "Cloud Monitoring notification channels that alerts go to, as `projects/…/notificationChannels/…`."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for channel in var.alert_channels : length(channel) > 0 && !strcontains(channel, "@")])
    error_message = "alert_channels must be the names of channels, like projects/…/notificationChannels/…, not e-mail addresses."
  }
}

variable "audiences" {
  description = <<-END
    The audiences of people's ID tokens, besides the clients in `sign_in` and the Hub's own address,
    which service accounts ask for: the Hub accepts a token only for one of these. Tokens of `gcloud
    auth print-identity-token` have `32555940559.apps.googleusercontent.com`, whichever Hub they are
    meant for. Ignored behind Identity-Aware Proxy.
  END
  type        = list(string)
  default     = []

  validation {
    condition     = var.domain != null || length(var.audiences) > 0 || var.sign_in.desktop_client_id != null
    error_message = "audiences must name at least one audience, unless you set domain, which puts the Hub behind Identity-Aware Proxy, or an OAuth client in sign_in."
  }
}

variable "compute_admin" {
  description = "Give the workers roles/compute.admin instead of the custom role with what they use. Only for debugging."
  type        = bool
  default     = false
}

variable "connect_members" {
  description = <<-END
    Who may reach the workspaces' machines by SSH, as IAM members: `user:…`, `group:…`,
    `domain:example.com`, `serviceAccount:…`. They get the tunnel to port 22, `compute.projects.get`,
    and the right to use the machines' account. It lets nobody in: the Hub lets each owner in to
    their own machines.
  END
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.connect_members : can(regex("^((user|group|serviceAccount):[!#-'*+./0-9=A-Z^_`a-z{|}~-]+@|domain:)([a-zA-Z0-9-]+[.])+[a-zA-Z0-9-]+$", member))])
    error_message = "connect_members must be IAM members like user:alice@example.com, group:…, serviceAccount:… or domain:example.com. allUsers and allAuthenticatedUsers would let everybody reach the machines."
  }
  validation {
    condition     = length(distinct([for member in var.connect_members : lower(member)])) == length(var.connect_members)
    error_message = "connect_members must name each member once: IAM takes no notice of the case of addresses."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the database. Before you remove the Hub with its records, set this to false and apply."
  type        = bool
  default     = true
}

variable "disk_types" {
  description = <<-END
    The type of boot disks and homes, by series of machine types, as `{ e2 = "pd-ssd" }`. The
    default is `pd-balanced`, or `hyperdisk-balanced` for series that take nothing else. A home
    keeps the disk that it was made with, so change this before there are workspaces.
  END
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for series in keys(var.disk_types) : can(regex("^[a-z]+[0-9]+[a-z]*$", series))])
    error_message = "The keys of disk_types must be series of machine types, like e2 or n4, not machine types."
  }
  validation {
    condition     = alltrue([for type in values(var.disk_types) : contains(["pd-balanced", "pd-ssd", "pd-standard", "hyperdisk-balanced"], type)])
    error_message = "The values of disk_types must be pd-balanced, pd-ssd, pd-standard or hyperdisk-balanced: other types cannot be boot disks and homes."
  }
}

variable "domain" {
  description = <<-END
    A domain name for the Hub, like hub.example.com. With it, the Hub is behind an external load
    balancer and Identity-Aware Proxy: point the name at the output `load_balancer_address`. Without
    it, the Hub is behind API Gateway, and verifies ID tokens itself.
  END
  type        = string
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([-a-z0-9]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain must be a full domain name in lower case, like hub.example.com."
  }
}

variable "iap_members" {
  description = "Who may pass Identity-Aware Proxy, as IAM members: `domain:example.com`, `user:…`, `group:…`. Set it if you set domain."
  type        = list(string)
  default     = []

  validation {
    condition     = (var.domain == null) == (length(var.iap_members) == 0)
    error_message = "Set iap_members if you set domain, and only then: it names who may pass Identity-Aware Proxy."
  }
}

variable "image" {
  description = "The name of the workspaces' container image in the Hub's own registry."
  type        = string
  default     = "workspace"

  validation {
    condition     = can(regex("^[a-z0-9]+([._-][a-z0-9]+)*$", var.image))
    error_message = "image must be an image's name in lower case, without registry and tag."
  }
}

variable "machine_prices" {
  description = <<-END
    What an hour of a running machine costs, by machine type, as
    `{ per_hour = { e2-standard-4 = 0.134 } }`. People see it before they create or start a
    workspace; nothing else depends on it. `currency` is a code by ISO 4217.
  END
  type = object({
    currency = optional(string, "USD")
    per_hour = optional(map(string), {})
  })
  default = {}

  validation {
    condition     = can(regex("^[A-Z]{3}$", var.machine_prices.currency))
    error_message = "machine_prices.currency must be a currency's code by ISO 4217, like EUR."
  }
  validation {
    condition     = alltrue([for type in keys(var.machine_prices.per_hour) : can(regex("^([a-z]+[0-9]+[a-z]*-[a-z]+|custom-[0-9]+)(-[a-z0-9]+)*$", type))])
    error_message = "The keys of machine_prices.per_hour must be machine types, like e2-standard-4."
  }
  validation {
    condition     = alltrue([for price in values(var.machine_prices.per_hour) : can(regex("^[0-9]{1,6}([.][0-9]{1,6})?$", price))])
    error_message = "The values of machine_prices.per_hour must be prices without a currency, like 0.134."
  }
}

variable "machine_types" {
  description = "The machine types that people may ask for. The first is the default."
  type        = list(string)
  default     = ["e2-standard-4", "e2-standard-2", "e2-standard-8", "e2-standard-16"]

  validation {
    condition     = length(var.machine_types) > 0
    error_message = "machine_types must name at least one machine type."
  }
  validation {
    condition     = alltrue([for type in var.machine_types : can(regex("^([a-z]+[0-9]+[a-z]*-[a-z]+|custom-[0-9]+)(-[a-z0-9]+)*$", type))])
    error_message = "machine_types must be machine types like e2-standard-4 or n2-custom-4-16384."
  }
  validation {
    condition     = alltrue([for type in var.machine_types : !can(regex("^([ag][2-9]|[mxz][0-9]|[a-z]{2,}[0-9])|lssd|-metal", type))])
    error_message = "machine_types must be types that Compute Engine can suspend: no accelerators, local SSDs, bare metal, and at most 208 GB of memory."
  }
  validation {
    condition     = length(distinct([for type in var.machine_types : can(regex("^[a-z][0-9]+a-", type))])) <= 1
    error_message = "machine_types must be all Arm or all x86: a Hub's images, and what people install in their homes, run on only one of the two."
  }
}

variable "max_instances" {
  description = <<-END
    The most instances that one function may have; the catalogue allows some functions fewer. Each
    instance takes one of the CPUs that the project has for Cloud Run in the region. New projects
    have 20, and sometimes refuse more than 10 here.
  END
  type        = number
  default     = 10

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= max([for function in local.functions : function.max_instances]...) && floor(var.max_instances) == var.max_instances
    error_message = "max_instances must be a whole number from 1 to 20, the most that the catalogue has for any function."
  }
}

variable "min_instances" {
  description = "How many instances of each function for people are kept warm. 0 costs nothing when idle; 1 avoids cold starts."
  type        = number
  default     = 0

  validation {
    condition     = var.min_instances >= 0 && var.min_instances <= 10 && floor(var.min_instances) == var.min_instances
    error_message = "min_instances must be a whole number from 0 to 10."
  }
  validation {
    condition     = var.min_instances <= var.max_instances
    error_message = "min_instances must not be more than max_instances."
  }
}

variable "name" {
  description = "The name of this Hub. The names of all of its resources begin with it, so that one project can have several Hubs."
  type        = string
  default     = "hub"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,10}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 12 lower case letters, digits or hyphens, begin with a letter, and not end with a hyphen."
  }
}

variable "network" {
  description = "A network of your own for the machines, with private Google access, NAT and a firewall rule for IAP. By default the Hub makes one."
  type = object({
    network    = string # self link, or projects/…/global/networks/…
    subnetwork = string # self link, or projects/…/regions/…/subnetworks/…
  })
  default = null

  validation {
    condition     = var.network == null ? true : can(regex("/networks/[^/]+$", var.network.network)) && can(regex("/subnetworks/[^/]+$", var.network.subnetwork))
    error_message = "network must name a network as projects/…/global/networks/…, and a subnetwork as projects/…/regions/…/subnetworks/…."
  }
}

variable "project_id" {
  description = "The project that everything is in."
  type        = string

  validation {
    condition     = can(regex("^[a-z][-a-z0-9]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id must be a project's id, not its number or name."
  }
}

variable "queue_rate" {
  description = <<-END
    The most jobs of people's operations that are handed out in a second; an operation takes 2 to 6.
    The default is the catalogue's 20, which keeps the Hub below Compute Engine's default quota of
    calls. Raise that quota before you raise this. Sweeps have a queue of their own, with a quarter
    of this rate.
  END
  type        = number
  default     = null

  validation {
    condition     = var.queue_rate == null ? true : var.queue_rate >= 1 && var.queue_rate <= 500
    error_message = "queue_rate must be from 1 to 500, the most that Cloud Tasks hands out from one queue."
  }
}

variable "region" {
  description = "The region of functions, database and machines. You can never change a database's region. New projects may build in few regions only; us-central1 is one."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region must be a region like us-west1, not a zone."
  }
}

variable "settings" {
  description = <<-END
    Other settings of the Hub by their names, as `{ HUB_IDLE_SECONDS = "7200" }`.
    docs/configuration.md in the repository lists them. You cannot set here what this module sets
    itself.
  END
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : contains(local.tunable, name)])
    error_message = "settings may only have the names in this module's settings.json: others are no settings, or are set by the module itself."
  }
  validation {
    condition     = try(tonumber(lookup(var.settings, "HUB_HOME_DISK_GB", "") == "" ? "50" : var.settings["HUB_HOME_DISK_GB"]) <= tonumber(lookup(var.settings, "HUB_HOME_DISK_MAX_GB", "") == "" ? "500" : var.settings["HUB_HOME_DISK_MAX_GB"]), true)
    error_message = "HUB_HOME_DISK_GB (50 by default) must be at most HUB_HOME_DISK_MAX_GB (500 by default) in settings."
  }
}

variable "sign_in" {
  description = <<-END
    OAuth clients of this Hub's own, which `GET /sign-in` tells to everybody: one of the type desktop
    for the command, with its so-called secret, which Google does not treat as one, and one for web
    pages, without its secret. With a domain, `iap_client_id` is the client of Identity-Aware Proxy
    itself, if you have set one there: its tokens are the ones that commands get, then. By default
    the proxy takes those of the desktop client.
  END
  type = object({
    desktop_client_id     = optional(string)
    desktop_client_secret = optional(string)
    iap_client_id         = optional(string)
    web_client_id         = optional(string)
  })
  default = {}

  validation {
    condition = alltrue([
      for id in [var.sign_in.desktop_client_id, var.sign_in.iap_client_id, var.sign_in.web_client_id] : id == null ? true : can(regex("^[0-9]+-[a-z0-9]+[.]apps[.]googleusercontent[.]com$", id))
    ])
    error_message = "The ids in sign_in must be those of OAuth clients, like 123456789012-abc.apps.googleusercontent.com."
  }
  validation {
    condition     = var.sign_in.desktop_client_secret == null ? true : var.sign_in.desktop_client_id != null && can(regex("^[A-Za-z0-9_-]+$", var.sign_in.desktop_client_secret))
    error_message = "sign_in.desktop_client_secret must be the so-called secret of the client in sign_in.desktop_client_id."
  }
  validation {
    condition     = var.sign_in.desktop_client_id == null || var.sign_in.desktop_client_id != var.sign_in.web_client_id
    error_message = "sign_in must name two different clients: a web client's secret is a secret, and must never be told."
  }
  validation {
    condition     = var.sign_in.iap_client_id == null || var.domain != null
    error_message = "Set sign_in.iap_client_id only if you set domain, which puts the Hub behind Identity-Aware Proxy."
  }
}

variable "subnet_range" {
  description = <<-END
    The addresses of the machines in the Hub's own network. A /18 is enough for some 16,000
    workspaces. You can change it later to a wider range with the same beginning, but not to a
    narrower or another one while there are machines.
  END
  type        = string
  default     = "10.64.0.0/18"

  validation {
    condition     = can(cidrnetmask(var.subnet_range)) && try(cidrhost(var.subnet_range, 0) == split("/", var.subnet_range)[0], false)
    error_message = "subnet_range must be a range of IPv4 addresses that begins at its first address, like 10.64.0.0/18."
  }
  validation {
    condition     = can(regex("/(8|9|1[0-9]|2[0-9])$", var.subnet_range))
    error_message = "subnet_range must be from a /8 to a /29: Compute Engine takes no others."
  }
}

variable "zones" {
  description = "The zones for machines. The first is the default; the others are tried if it has no capacity. By default all zones of the region."
  type        = list(string)
  default     = null

  validation {
    condition     = var.zones == null ? true : length(var.zones) > 0 && alltrue([for zone in var.zones : startswith(zone, "${var.region}-")])
    error_message = "zones must name at least one zone, and only zones of the region."
  }
}
