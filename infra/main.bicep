// Rowgate on Azure: a function on Flex Consumption in front of a PostgreSQL. docs/deploy.md explains the parameters.

targetScope = 'subscription'

@description('The name of the azd environment; names are made from it.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Where everything is made.')
@metadata({
  azd: {
    type: 'location'
  }
})
param location string

@description('Who deploys: the database\'s Entra administrator, and who makes the secrets. scripts/azd-preprovision finds out.')
param deployerObjectId string
param deployerName string
@allowed([
  'User'
  'Group'
  'ServicePrincipal'
])
param deployerType string = 'User'

@description('The address of the machine that deploys: let in to Key Vault and Azure OpenAI when useVnet is on.')
param clientIpAddress string = ''

param resourceGroupName string = ''

@description('How a caller is proved. easy-auth: App Service checks Entra\'s tokens; entra: Rowgate does. issued-token adds tokens of Rowgate\'s own.')
@allowed([
  'easy-auth'
  'entra'
  'easy-auth,issued-token'
  'entra,issued-token'
])
param identity string = 'easy-auth'

@description('An application in Entra that is there already. Empty: one is made.')
param entraClientId string = ''

@description('The URI of that application.')
param entraIdentifierUri string = ''

@description('Clients that may sign callers in without anybody\'s consent. The one id is Visual Studio Code\'s.')
param preAuthorizedClientIds array = [
  'aebc6443-996d-45c2-90f0-388ff96faa56'
]

@description('The database server. Its name decides how many connections there are: see databaseSkus.')
@allowed([
  'Standard_B1ms'
  'Standard_B2s'
  'Standard_B2ms'
  'Standard_D2ds_v5'
  'Standard_D4ds_v5'
  'Standard_E2ds_v5'
])
param databaseSku string = 'Standard_B1ms'
@allowed([
  '15'
  '16'
  '17'
  '18'
])
param databaseVersion string = '17'
param databaseName string = 'zava'

@description('Gigabytes.')
param databaseStorageGB int = 32
param databaseBackupDays int = 7

@description('How the function signs in to the database: with a token of its identity, or with a password from Key Vault.')
@allowed([
  'entra'
  'key-vault'
])
param databaseLogin string = 'entra'

@description('Of an administrator whom nobody uses; only for databaseLogin key-vault. A new one each time.')
@secure()
param databaseServerPassword string = 'Aa1-${newGuid()}'

@description('Whether database, storage, vault and OpenAI are reached through a virtual network only.')
param useVnet bool = false

@description('Whether rows can be searched by meaning.')
param useOpenai bool = true

@description('Empty: where everything else is.')
param openaiLocation string = ''
@allowed([
  'Standard'
  'DataZoneStandard'
  'GlobalStandard'
])
param openaiDeploymentSku string = 'GlobalStandard'

@description('Thousands of tokens a minute.')
param openaiCapacity int = 50

@description('How the function signs in to Azure OpenAI.')
@allowed([
  'entra'
  'key-vault'
])
param openaiLogin string = 'entra'
param embeddingModel string = 'text-embedding-3-small'
param embeddingModelVersion string = '1'

@description('Memory of one instance: 512 MB have a quarter of a core, 2048 one, 4096 two.')
@allowed([
  512
  2048
  4096
])
param instanceMemoryMB int = 512

@description('Instances at most. Fewer are used where the database has not enough connections for them.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 8

@description('Instances that wait for calls, and cost something while they do.')
@minValue(0)
@maxValue(100)
param alwaysReadyInstances int = 0

@description('Calls that one instance answers at a time before another is started.')
@minValue(1)
@maxValue(1000)
param httpConcurrency int = 16

@description('Connections to the database that one instance makes at most.')
@minValue(1)
@maxValue(16)
param poolSize int = 4

@description('Days that logs are kept.')
param logRetentionDays int = 30

@description('Gigabytes of logs a day at most.')
param logDailyGigabytes int = 1

@description('Who is told when something is wrong. Empty: there are no alerts and no budget.')
param alertEmail string = ''

@description('What a month may cost before that person is told. 0: no budget.')
param budgetAmount int = 40

@description('Days that a deleted vault keeps its name.')
param softDeleteDays int = 7

@description('The first of this month.')
param budgetStart string = utcNow('yyyy-MM-01')

var abbreviations = loadJsonContent('abbreviations.json')
var resourceToken = toLower(uniqueString(subscription().id, environmentName, location))
var tags = {
  'azd-env-name': environmentName
}
var serviceName = 'mcp'
var functionName = '${abbreviations.functionApp}${resourceToken}'
var hostname = '${functionName}.azurewebsites.net'

// Connections that people and programs can have, out of those that Azure keeps 15 of for itself.
// https://learn.microsoft.com/azure/postgresql/configure-maintain/concepts-limits
var databaseSkus = {
  Standard_B1ms: {
    tier: 'Burstable'
    connections: 35
  }
  Standard_B2s: {
    tier: 'Burstable'
    connections: 414
  }
  Standard_B2ms: {
    tier: 'Burstable'
    connections: 844
  }
  Standard_D2ds_v5: {
    tier: 'GeneralPurpose'
    connections: 844
  }
  Standard_D4ds_v5: {
    tier: 'GeneralPurpose'
    connections: 1703
  }
  Standard_E2ds_v5: {
    tier: 'MemoryOptimized'
    connections: 1703
  }
}
// For migrations, and for a person who looks.
var reservedConnections = 3
// The guard: instances times their pools never want more connections than there are, whatever was asked for.
var possibleInstances = (databaseSkus[databaseSku].connections - reservedConnections) / poolSize
var instances = min(maximumInstanceCount, possibleInstances)

var usesEasyAuth = startsWith(identity, 'easy-auth')
// App Service turns away every bearer token that is not Entra's, so it has to let the unknown ones through for Rowgate
// to see its own. Rowgate refuses the rest itself: a call without a caller gets nothing either way.
var takesIssuedTokens = endsWith(identity, 'issued-token')
var makesEntraApp = empty(entraClientId)
var clientId = makesEntraApp ? entraApp!.outputs.clientId : entraClientId
var identifierUri = makesEntraApp ? entraApp!.outputs.identifierUri : entraIdentifierUri

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: empty(resourceGroupName) ? '${abbreviations.resourceGroup}${environmentName}' : resourceGroupName
  location: location
  tags: tags
}

module functionIdentity 'app/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: '${abbreviations.managedIdentity}${resourceToken}'
    location: location
    tags: tags
  }
}

module monitoring 'app/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    workspaceName: '${abbreviations.logAnalytics}${resourceToken}'
    applicationInsightsName: '${abbreviations.applicationInsights}${resourceToken}'
    location: location
    tags: tags
    retentionDays: logRetentionDays
    dailyGigabytes: logDailyGigabytes
  }
}

module storage 'app/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    name: '${abbreviations.storageAccount}${resourceToken}'
    location: location
    tags: tags
    packageContainerName: 'packages'
    isPrivate: useVnet
  }
}

module keyVault 'app/keyvault.bicep' = {
  name: 'keyvault'
  scope: group
  params: {
    name: '${abbreviations.keyVault}${resourceToken}'
    location: location
    tags: tags
    isPrivate: useVnet
    clientIpAddress: clientIpAddress
    softDeleteDays: softDeleteDays
  }
}

module postgres 'app/postgres.bicep' = {
  name: 'postgres'
  scope: group
  params: {
    name: '${abbreviations.postgres}${resourceToken}'
    location: location
    tags: tags
    databaseName: databaseName
    skuName: databaseSku
    skuTier: databaseSkus[databaseSku].tier
    version: databaseVersion
    storageGB: databaseStorageGB
    backupDays: databaseBackupDays
    usesPassword: databaseLogin == 'key-vault'
    administratorPassword: databaseServerPassword
    administratorObjectId: deployerObjectId
    administratorName: deployerName
    administratorType: deployerType
    isPrivate: useVnet
  }
}

module openai 'app/openai.bicep' = if (useOpenai) {
  name: 'openai'
  scope: group
  params: {
    name: '${abbreviations.openai}${resourceToken}'
    location: empty(openaiLocation) ? location : openaiLocation
    tags: tags
    deploymentName: embeddingModel
    modelName: embeddingModel
    modelVersion: embeddingModelVersion
    deploymentSku: openaiDeploymentSku
    capacity: openaiCapacity
    hasKeys: openaiLogin == 'key-vault'
    isPrivate: useVnet
    clientIpAddress: clientIpAddress
  }
}

module network 'app/network.bicep' = if (useVnet) {
  name: 'network'
  scope: group
  params: {
    name: '${abbreviations.virtualNetwork}${resourceToken}'
    location: location
    tags: tags
  }
}

module storageEndpoint 'app/private-endpoint.bicep' = if (useVnet) {
  name: 'endpoint-storage'
  scope: group
  params: {
    name: '${abbreviations.privateEndpoint}storage-${resourceToken}'
    location: location
    tags: tags
    subnetId: network!.outputs.endpointSubnetId
    zoneId: network!.outputs.blobZoneId
    serviceId: storage.outputs.id
    groupId: 'blob'
  }
}

module keyVaultEndpoint 'app/private-endpoint.bicep' = if (useVnet) {
  name: 'endpoint-keyvault'
  scope: group
  params: {
    name: '${abbreviations.privateEndpoint}keyvault-${resourceToken}'
    location: location
    tags: tags
    subnetId: network!.outputs.endpointSubnetId
    zoneId: network!.outputs.keyVaultZoneId
    serviceId: keyVault.outputs.id
    groupId: 'vault'
  }
}

module postgresEndpoint 'app/private-endpoint.bicep' = if (useVnet) {
  name: 'endpoint-postgres'
  scope: group
  params: {
    name: '${abbreviations.privateEndpoint}postgres-${resourceToken}'
    location: location
    tags: tags
    subnetId: network!.outputs.endpointSubnetId
    zoneId: network!.outputs.postgresZoneId
    serviceId: postgres.outputs.id
    groupId: 'postgresqlServer'
  }
}

module openaiEndpoint 'app/private-endpoint.bicep' = if (useVnet && useOpenai) {
  name: 'endpoint-openai'
  scope: group
  params: {
    name: '${abbreviations.privateEndpoint}openai-${resourceToken}'
    location: location
    tags: tags
    subnetId: network!.outputs.endpointSubnetId
    zoneId: network!.outputs.openaiZoneId
    serviceId: openai!.outputs.id
    groupId: 'account'
  }
}

module roles 'app/roles.bicep' = {
  name: 'roles'
  scope: group
  params: {
    functionPrincipalId: functionIdentity.outputs.principalId
    deployerObjectId: deployerObjectId
    deployerType: deployerType
    storageName: storage.outputs.name
    keyVaultName: keyVault.outputs.name
    applicationInsightsName: monitoring.outputs.applicationInsightsName
    openaiName: useOpenai ? openai!.outputs.name : ''
  }
}

module entraApp 'app/entra-app.bicep' = if (makesEntraApp) {
  name: 'entra-app'
  scope: group
  params: {
    name: 'rowgate-${resourceToken}'
    displayName: 'Rowgate (${environmentName})'
    hostname: hostname
    functionPrincipalId: functionIdentity.outputs.principalId
    preAuthorizedClientIds: preAuthorizedClientIds
  }
}

var alwaysSettings = {
  ROWGATE_KEY_VAULT: keyVault.outputs.endpoint
  ROWGATE_CLAIM_KEYS_SECRET: 'rowgate-claim-keys'
  ROWGATE_DATABASE_URL: 'postgres://rowgate_app@${postgres.outputs.host}:5432/${postgres.outputs.databaseName}'
  ROWGATE_DATABASE_LOGIN: databaseLogin
  ROWGATE_DATABASE_TLS: 'on'
  ROWGATE_IDENTITY: identity
  ROWGATE_MANAGED_IDENTITY_CLIENT_ID: functionIdentity.outputs.clientId
  ROWGATE_POOL_SIZE: string(poolSize)
}
var databasePasswordSettings = {
  ROWGATE_DATABASE_PASSWORD_SECRET: 'rowgate-database-password'
}
var entraSettings = {
  ROWGATE_ENTRA_TENANT: tenant().tenantId
  ROWGATE_ENTRA_AUDIENCE: '${clientId},${identifierUri}'
}
var issuedTokenSettings = {
  ROWGATE_TOKEN_KEYS_SECRET: 'rowgate-token-keys'
}
var openaiSettings = {
  ROWGATE_EMBEDDER: 'azure-openai'
  ROWGATE_OPENAI_ENDPOINT: useOpenai ? openai!.outputs.endpoint : ''
  ROWGATE_OPENAI_DEPLOYMENT: useOpenai ? openai!.outputs.deploymentName : ''
  ROWGATE_EMBEDDING_MODEL: embeddingModel
}
var openaiKeySettings = {
  ROWGATE_OPENAI_KEY_SECRET: 'rowgate-openai-key'
}
var none = {}
var easyAuthSettings = {
  // Preview: publishes the protected-resource metadata, which tells a client where to sign in and what to ask for.
  WEBSITE_AUTH_PRM_DEFAULT_WITH_SCOPES: '${identifierUri}/user_impersonation'
  WEBSITE_AUTH_AAD_ALLOWED_TENANTS: tenant().tenantId
  // No secret: says which identity stands in for the application's.
  OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID: functionIdentity.outputs.clientId
}

module function 'app/function.bicep' = {
  name: 'function'
  scope: group
  params: {
    name: functionName
    planName: '${abbreviations.plan}${resourceToken}'
    location: location
    tags: tags
    serviceName: serviceName
    identityId: functionIdentity.outputs.id
    identityClientId: functionIdentity.outputs.clientId
    blobEndpoint: storage.outputs.blobEndpoint
    packageContainerUrl: storage.outputs.packageContainerUrl
    applicationInsightsConnectionString: monitoring.outputs.connectionString
    subnetId: useVnet ? network!.outputs.functionSubnetId : ''
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: instances
    alwaysReadyInstances: min(alwaysReadyInstances, instances)
    httpConcurrency: httpConcurrency
    rowgateSettings: union(
      alwaysSettings,
      databaseLogin == 'key-vault' ? databasePasswordSettings : none,
      usesEasyAuth ? none : entraSettings,
      takesIssuedTokens ? issuedTokenSettings : none,
      useOpenai ? openaiSettings : none,
      openaiLogin == 'key-vault' ? openaiKeySettings : none)
    authenticationSettings: usesEasyAuth ? easyAuthSettings : none
  }
  // Before it starts it has to be able to read its package and its secrets.
  dependsOn: [
    roles
    storageEndpoint
    keyVaultEndpoint
    postgresEndpoint
    openaiEndpoint
  ]
}

module auth 'app/auth.bicep' = {
  name: 'auth'
  scope: group
  params: {
    functionName: function.outputs.name
    isEnabled: usesEasyAuth
    letsUnknownTokensPass: takesIssuedTokens
    clientId: clientId
    identifierUri: identifierUri
    allowedClientIds: preAuthorizedClientIds
  }
}

module alerts 'app/alerts.bicep' = if (!empty(alertEmail)) {
  name: 'alerts'
  scope: group
  params: {
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    email: alertEmail
  }
}

module workbook 'app/workbook.bicep' = {
  name: 'workbook'
  scope: group
  params: {
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
  }
}

module budget 'app/budget.bicep' = if (!empty(alertEmail) && budgetAmount > 0) {
  name: 'budget'
  scope: group
  params: {
    name: '${abbreviations.budget}${resourceToken}'
    amount: budgetAmount
    email: alertEmail
    startDate: budgetStart
  }
}

output AZURE_LOCATION string = location
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_RESOURCE_GROUP string = group.name
output AZURE_KEY_VAULT_NAME string = keyVault.outputs.name
output AZURE_OPENAI_NAME string = useOpenai ? openai!.outputs.name : ''
output AZURE_OPENAI_ENDPOINT string = useOpenai ? openai!.outputs.endpoint : ''
output AZURE_OPENAI_DEPLOYMENT string = useOpenai ? openai!.outputs.deploymentName : ''
output OPENAI_LOGIN string = openaiLogin
output EMBEDDING_MODEL string = embeddingModel
output DATABASE_SERVER string = postgres.outputs.name
output DATABASE_HOST string = postgres.outputs.host
output DATABASE_NAME string = postgres.outputs.databaseName
output DATABASE_LOGIN string = databaseLogin
output CALLER_IDENTITY string = identity
output USE_VNET bool = useVnet
output ENTRA_CLIENT_ID string = clientId
output ENTRA_IDENTIFIER_URI string = identifierUri
output MAXIMUM_INSTANCE_COUNT int = instances
output SERVICE_MCP_NAME string = function.outputs.name
output SERVICE_MCP_URL string = 'https://${function.outputs.hostname}/mcp'
output SERVICE_MCP_IDENTITY_OBJECT_ID string = functionIdentity.outputs.principalId
