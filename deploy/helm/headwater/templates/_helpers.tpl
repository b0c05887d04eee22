{{/* The name of everything that belongs to a release. */}}
{{- define "headwater.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "headwater.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "headwater.labels" -}}
{{ include "headwater.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* How many pods found the cluster. */}}
{{- define "headwater.founders" -}}
{{- .Values.founders | default .Values.replicas -}}
{{- end }}

{{/* The domain of the pods, below which each has its name. */}}
{{- define "headwater.nodesDomain" -}}
{{- printf "%s-nodes.%s.svc.%s" (include "headwater.name" .) .Release.Namespace .Values.clusterDomain -}}
{{- end }}

{{/* The list of members that found the cluster: pods are numbered from 1, as servers are. */}}
{{- define "headwater.members" -}}
{{- $members := list -}}
{{- range $id := untilStep 1 (int (add1 (include "headwater.founders" .))) 1 -}}
{{- $host := printf "%s-%d.%s" (include "headwater.name" $) $id (include "headwater.nodesDomain" $) -}}
{{- $members = append $members (printf "%d=%s:1113/%s:2113" $id $host $host) -}}
{{- end -}}
{{- join "," $members -}}
{{- end }}

{{- define "headwater.scheme" -}}
{{- if .Values.tls.existingSecret }}https{{ else }}http{{ end -}}
{{- end }}
