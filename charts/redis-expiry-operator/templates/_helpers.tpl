{{/* The chart's name. */}}
{{- define "redis-expiry-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of what is installed. Pods add 17 characters and Leases 22 more, within 253. */}}
{{- define "redis-expiry-operator.fullname" -}}
{{- $name := include "redis-expiry-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The same with a suffix: include "...named" (list . "leases"). */}}
{{- define "redis-expiry-operator.named" -}}
{{- $suffix := index . 1 }}
{{- $name := include "redis-expiry-operator.fullname" (index . 0) }}
{{- printf "%s-%s" ($name | trunc (int (sub 62 (len $suffix))) | trimSuffix "-") $suffix }}
{{- end }}

{{/* By which the Deployment knows its pods. Never changes: a Deployment's selector is immutable. */}}
{{- define "redis-expiry-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "redis-expiry-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{/* Labels of every object; ours win over commonLabels. */}}
{{- define "redis-expiry-operator.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "redis-expiry-operator.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/part-of" "redis-expiry-operator"
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- merge $own .Values.commonLabels | toYaml }}
{{- end }}

{{/* The same and others, which they win over: include "...labelsWith" (list . .Values.x.labels). */}}
{{- define "redis-expiry-operator.labelsWith" -}}
{{- merge (include "redis-expiry-operator.labels" (index . 0) | fromYaml) (index . 1) | toYaml }}
{{- end }}

{{/* Labels of the pods: nothing that changes with the chart alone, so that it starts no rollout. */}}
{{- define "redis-expiry-operator.podLabels" -}}
{{- merge (include "redis-expiry-operator.selectorLabels" . | fromYaml) (dict "app.kubernetes.io/part-of" "redis-expiry-operator") .Values.podLabels .Values.commonLabels | toYaml }}
{{- end }}

{{- define "redis-expiry-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "redis-expiry-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* registry/repository@digest, else registry/repository:tag. */}}
{{- define "redis-expiry-operator.image" -}}
{{- with .Values.image }}
{{- with .registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* Where ledgers and the admin socket lie. */}}
{{- define "redis-expiry-operator.stateDir" -}}/var/lib/redis-expiry-operator{{- end }}

{{/* A GEP-2257 duration such as 1m30s in milliseconds; values.schema.json has judged its form. */}}
{{- define "redis-expiry-operator.milliseconds" -}}
{{- $total := 0 }}
{{- range regexFindAll "[0-9]+(ms|h|m|s)" . -1 }}
{{- $unit := get (dict "h" 3600000 "m" 60000 "s" 1000 "ms" 1) (regexFind "[a-z]+" .) }}
{{- $total = add $total (mul (regexFind "[0-9]+" . | int) $unit) }}
{{- end }}
{{- $total }}
{{- end }}

{{/* What the operator may do with listeners and what they name. docs/install.md says what each rule is for. */}}
{{- define "redis-expiry-operator.rules" -}}
- apiGroups: [redisexpiry.io]
  resources: [redisexpirylisteners]
  verbs: [get, list, watch]
- apiGroups: [redisexpiry.io]
  resources: [redisexpirylisteners/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets, configmaps]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Whether to render a kind of the Prometheus operator: include "...monitoring" (list . "metrics.podMonitor" .Values.metrics.podMonitor). */}}
{{- define "redis-expiry-operator.monitoring" -}}
{{- $root := index . 0 }}{{ $path := index . 1 }}{{ $value := index . 2 }}
{{- if $value.enabled }}
{{- $known := $root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}
{{- if and (eq $value.renderMode "failIfMissing") (not $known) }}
{{- fail (printf "%s.enabled: the cluster does not know monitoring.coreos.com/v1; install the Prometheus operator, or set %s.renderMode to skipIfMissing or alwaysRender" $path $path) }}
{{- end }}
{{- if or $known (eq $value.renderMode "alwaysRender") }}true{{ end }}
{{- end }}
{{- end }}

{{/* What the schema cannot say of two values at once. */}}
{{- define "redis-expiry-operator.validate" -}}
{{- $drain := include "redis-expiry-operator.milliseconds" .Values.drainTimeout | int }}
{{- if le (mul 1000 (int .Values.terminationGracePeriodSeconds)) $drain }}
{{- fail (printf "terminationGracePeriodSeconds (%d) must be longer than drainTimeout (%s)" (int .Values.terminationGracePeriodSeconds) .Values.drainTimeout) }}
{{- end }}
{{- $renew := include "redis-expiry-operator.milliseconds" .Values.leases.renew | int }}
{{- $expiry := include "redis-expiry-operator.milliseconds" .Values.leases.expiry | int }}
{{- if lt $expiry (mul 2 $renew | int) }}
{{- fail (printf "leases.expiry (%s) must be at least twice leases.renew (%s)" .Values.leases.expiry .Values.leases.renew) }}
{{- end }}
{{- if and .Values.store.local.persistence.enabled (ne (int .Values.replicaCount) 1) }}
{{- fail (printf "store.local.persistence.enabled needs replicaCount: 1, found %d: the file of a Local store belongs to one process" (int .Values.replicaCount)) }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if has .name (list "POD_NAME" "POD_UID" "POD_NAMESPACE") }}
{{- fail (printf "extraEnv: %s is set by the chart" .name) }}
{{- end }}
{{- end }}
{{- range $field, $ := .Values.extraPodSpec }}
{{- if has $field (list "affinity" "automountServiceAccountToken" "containers" "enableServiceLinks" "hostUsers" "imagePullSecrets" "nodeSelector" "priorityClassName" "securityContext" "serviceAccountName" "terminationGracePeriodSeconds" "tolerations" "topologySpreadConstraints" "volumes") }}
{{- fail (printf "extraPodSpec.%s: the chart sets this field; use the value for it" $field) }}
{{- end }}
{{- end }}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled }}
{{- fail "metrics.podMonitor.enabled and metrics.serviceMonitor.enabled: every pod would be scraped twice; choose one" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor.enabled needs metrics.service.enabled; or use metrics.podMonitor" }}
{{- end }}
{{- end }}
